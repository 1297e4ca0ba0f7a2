"""Surveys: the plan, the pass over images, parts and their merge, here or through Ray.

Nothing is imported here: Ray's process that counts images needs no torch. The room is not named `survey`, since
importing it would replace the function `secondlens.survey`.
"""
