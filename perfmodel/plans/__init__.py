"""Plans: a plan divides a workload over GPUs and inserts collectives."""
