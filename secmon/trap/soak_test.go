//go:build soak

package trap_test

// soak has the hooks put on and taken off a thousand times.
const soak = true
