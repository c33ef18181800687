package hostinfo

// spin is the loop of loopCode on the host: n rounds, n > 0.
func spin(n uint64)
