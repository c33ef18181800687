package record

import "unsafe"

// stringOf is p as a string, without a copy.
func stringOf(p []byte) string {
	// SAFETY: the bytes of an event are never changed after it was handed on
	// (package event), and the string keeps them alive.
	return unsafe.String(unsafe.SliceData(p), len(p))
}
