"""The whole program under pressure: races, strangers, hostile input, a gateway or a store that is away."""
