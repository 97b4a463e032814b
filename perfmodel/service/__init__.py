"""Serving: the cost of a mixed step, batching, queueing, speculation and memory of a serving stack, in closed form."""
