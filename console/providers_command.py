"""`penstock providers`: the vendors and servers of a running gateway."""

from console.deployment_command import providers as run

__all__ = ["run"]
