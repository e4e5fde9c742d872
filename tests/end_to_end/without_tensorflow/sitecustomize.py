"""Python imports this at its start where PYTHONPATH names the folder: from then on there is no TensorFlow."""

import sys

sys.modules['tensorflow'] = None
