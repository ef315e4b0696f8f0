"""The API: writes go to the log, reads are answered in process."""
