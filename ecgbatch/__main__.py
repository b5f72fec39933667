"""``python -m ecgbatch``: the command line where no script of that name is on the path."""

from ecgbatch.cli import main

if __name__ == "__main__":
    main()
