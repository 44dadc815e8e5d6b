"""The importer of Hugging Face `config.json` files: no network, and no field that is silently
passed over.
"""

from qsopt.catalog.huggingface.importer import FAMILIES as FAMILIES
from qsopt.catalog.huggingface.importer import read_config as read_config
