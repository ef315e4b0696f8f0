"""Where releases lie: a folder of this machine, and a bucket that machines share."""
