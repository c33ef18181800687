//go:build soak

package api

import (
	"fmt"
	"testing"
)

// TestThousandComparisons holds a thousand looks at a busy guest against its own
// /proc.
func TestThousandComparisons(t *testing.T) {
	g := startGuest(t)
	const parts = 20
	for i := range parts {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			g.t = t
			g.compare(1000 / parts)
		})
	}
}
