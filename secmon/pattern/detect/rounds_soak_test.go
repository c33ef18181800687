//go:build soak

package detect_test

// rounds is how many random streams are compared with the plain evaluation: a
// million events.
const rounds = 5000
