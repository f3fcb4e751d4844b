"""One call: the only place where time, vendors and the turn machine meet."""
