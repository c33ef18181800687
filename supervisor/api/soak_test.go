//go:build soak

package api

import "testing"

// TestThousandComparisons holds a thousand looks at a busy guest against its own
// /proc.
func TestThousandComparisons(t *testing.T) { startGuest(t).compare(1000) }
