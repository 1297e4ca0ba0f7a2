"""Words for directions: pools of texts and sparse decompositions over them."""
