package blk

import (
	"context"
	"errors"
	"testing"
)

func TestInPieces(t *testing.T) {
	const off, n = 4096, 3*piece + 512
	next := int64(off)
	done, err := inPieces(t.Context(), off, n, func(at, m int64) (int64, error) {
		if at != next || m > piece {
			t.Errorf("%d bytes at %d, want at most %d at %d", m, at, piece, next)
		}
		next += m
		return m, nil
	})
	if done != n || err != nil {
		t.Errorf("%d bytes, %v, want %d", done, err, n)
	}
}

// TestInPiecesStops ends a transfer by its context, and by its disk.
func TestInPiecesStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done, err := inPieces(ctx, 0, 10*piece, func(_, m int64) (int64, error) {
		cancel()
		return m, nil
	})
	if done != piece || !errors.Is(err, context.Canceled) {
		t.Errorf("%d bytes, %v after the context ended in the first piece", done, err)
	}
	broken := errors.New("broken")
	done, err = inPieces(t.Context(), 0, 10*piece, func(_, m int64) (int64, error) { return m / 2, broken })
	if done != piece/2 || !errors.Is(err, broken) {
		t.Errorf("%d bytes, %v from a disk that broke in the first piece", done, err)
	}
}
