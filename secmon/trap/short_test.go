//go:build !soak

package trap_test

const soak = false
