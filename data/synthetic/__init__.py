"""Music, noise, rooms and devices that the project makes itself."""
