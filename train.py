"""Trains, validates, tests and uses the recurrent network: see `python train.py --help`."""

if __name__ == "__main__":
    from lit_imdb.main import main

    main()
