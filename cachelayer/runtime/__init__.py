"""The effects performed: for threads (sync), for event loops (aio), and the flights that outlive their callers."""
