"""open_clip lives in an environment of its own (make test-openclip); elsewhere these tests are not collected."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("open_clip") else ["test_open_clip.py"]
