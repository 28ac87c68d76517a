"""``python -m psfharvest`` is the command ``psfharvest``."""

from psfharvest.cli import main

if __name__ == "__main__":
    main()
