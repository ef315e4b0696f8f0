"""What tests share: worlds, logs, lakes, clusters, processes, and waiting for conditions."""
