"""What can befall a schedule, so that it can be counted how often it did."""

from enum import StrEnum


class Disturbance(StrEnum):
    """One thing that befalls somebody in a schedule."""

    LEADER_DEATH = "a producer is killed that schedules a run"
    FOLLOWER_DEATH = "a producer is killed that only follows one"
    SERVICE_DEATH = "the service is killed while it schedules runs"
    STANDBY_DEATH = "a service is killed that schedules none"
    AGGREGATOR_DEATH = "an aggregator is killed"
    CONSUMER_DEATH = "a consumer is killed"
    FREEZE = "somebody is frozen and given up"
    BROKER_RESTART = "the broker is killed and starts again"
    PURGE = "a queue that holds something is purged"
    CLOCK_JUMP = "the hosts' clocks jump while a run goes on"
    LOST_CONNECTION = "a connection breaks"
    CLOSED_CHANNEL = "the broker closes a channel"
    DUPLICATE = "a message arrives twice"
    LOST_EVENT = "an event of the aggregator reaches nobody"
    OVERTAKING = "a partial arrives after one that was issued later"
    ADOPTION = "the service takes a run over"
