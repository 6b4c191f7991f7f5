"""``python -m mammoscan``."""

from mammoscan.cli import main

if __name__ == "__main__":
    main(prog_name="mammoscan")
