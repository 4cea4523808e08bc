"""``python -m orchestration`` is ``ffpe``."""

from orchestration.cli import main

main()
