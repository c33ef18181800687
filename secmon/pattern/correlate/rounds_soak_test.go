//go:build soak

package correlate

// rounds is how many random streams are compared with the plain evaluation: a
// million events.
const rounds = 340
