//go:build !soak

package correlate

// rounds is how many random streams are compared with the plain evaluation.
const rounds = 8
