"""
The file that Locust loads: `locust -f loadtests/locustfile.py --host URL [--headless] [UserClass …]`.

Each scenario is a class of users (`ChatStreamUser` for `chat-stream`); without one it is mixed traffic.
`--load` and `--arrivals` choose rate and loop, `--out` where the report goes.
"""

import sys
from pathlib import Path

# Locust puts this file's folder on the path, and what it imports lies a folder above.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from loadtests.users import install, user_classes

# Locust takes the classes that it finds among this file's names.
globals().update(user_classes())

install()
