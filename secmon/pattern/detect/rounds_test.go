//go:build !soak

package detect_test

// rounds is how many random streams are compared with the plain evaluation.
const rounds = 150
