"""What the operating system and the interpreter ask of us: locks, forks, files, signals, SQLite. Knows no cache."""
