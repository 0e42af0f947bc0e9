"""Mean waits that are known exactly, against which the simulation is held."""

from __future__ import annotations


def mm_c_wait(*, rate: float, service_seconds: float, num_servers: int) -> float:
    """Mean seconds in the queue of M/M/c: C(c, a) · s / (c − a), a = rate · s (Erlang C).

    Raises:
        ValueError: unless a < c.
    """
    offered = rate * service_seconds
    if not offered < num_servers:
        raise ValueError(f"{offered:.3g} servers are asked for and there are {num_servers}: the queue grows for ever")
    blocked = 1.0  # Erlang B of no server; B(c) = a B(c−1) / (c + a B(c−1))
    for servers in range(1, num_servers + 1):
        blocked = offered * blocked / (servers + offered * blocked)
    waits = blocked / (1 - offered / num_servers * (1 - blocked))
    return waits * service_seconds / (num_servers - offered)


def mg_1_wait(*, rate: float, mean: float, second_moment: float) -> float:
    """Mean seconds in the queue of M/G/1: rate · E[S²] / (2 (1 − rate · E[S])) (Pollaczek and Khinchine).

    Raises:
        ValueError: unless rate · E[S] < 1.
    """
    if not rate * mean < 1:
        raise ValueError(f"one server is asked for {rate * mean:.3g} of its time: the queue grows for ever")
    return rate * second_moment / (2 * (1 - rate * mean))
