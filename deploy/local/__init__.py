"""Run a whole cluster on one machine: Flink, Beam's job server and workers, an S3 store, all on loopback."""
