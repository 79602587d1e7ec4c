"""Terms become one reward: named sets, composition, rewards by source, rates."""
