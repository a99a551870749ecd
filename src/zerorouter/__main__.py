"""``python -m zerorouter``: the command line, where its script is not on the path."""

from zerorouter.cli.main import main

if __name__ == "__main__":
    main()
