"""The command line. main.py declares every command; a room beside it does the work, imported when it is asked for."""
