package hosting

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"warder/supervisor/services"
)

// Who is attached types into a command and hears it. Who does not listen is told how
// much it has missed, and holds nobody up.
func TestAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost()
		d := runs("cat", "cat")
		d.Stdin = true
		s := supervise(t, h, d, runs("a", "sleep 1s"))
		if _, err := s.Attach("cat"); !errors.Is(err, services.ErrState) {
			t.Errorf("a service that does not run: %v", err)
		}
		if _, err := s.Attach("none"); !errors.Is(err, services.ErrUnknown) {
			t.Error(err)
		}
		for _, name := range []string{"cat", "a"} {
			if _, err := s.Start(t.Context(), name, "me"); err != nil {
				t.Fatal(err)
			}
		}
		if a, err := s.Attach("a"); err != nil || a.HasInput() {
			t.Errorf("%v", err)
		}
		typist, err := s.Attach("cat")
		if err != nil {
			t.Fatal(err)
		}
		slow, err := s.Attach("cat")
		if err != nil {
			t.Fatal(err)
		}
		piece := bytes.Repeat([]byte("x"), 1<<10)
		const pieces = 1000
		for range pieces {
			if err := typist.Type(t.Context(), piece); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		go func() {
			if _, err := s.Stop(t.Context(), "cat", 0, "me"); err != nil {
				t.Error(err)
			}
		}()
		if _, err := s.Wait(t.Context(), "cat"); err != nil {
			t.Fatal(err)
		}
		var got, lost uint64
		last := false
		if err := slow.Follow(t.Context(), func(p Piece) error {
			got, lost, last = got+uint64(len(p.Data)), lost+p.Lost, p.Exit != nil || p.Err != nil
			return nil
		}); err != nil || !last {
			t.Errorf("the end is not told: %v", err)
		}
		if got > pieceRoom || lost == 0 || got+lost != pieces<<10 {
			t.Errorf("%d bytes were kept and %d lost, of %d", got, lost, pieces<<10)
		}
		if err := typist.Type(t.Context(), piece); !errors.Is(err, services.ErrState) {
			t.Errorf("into a command that has ended: %v", err)
		}
		typist.Close()
		slow.Close()

		// Nothing is kept where nobody is attached, and a new hold begins now.
		if _, err := s.Start(t.Context(), "cat", "me"); err != nil {
			t.Fatal(err)
		}
		if typist, err = s.Attach("cat"); err != nil {
			t.Fatal(err)
		}
		if typist.Type(t.Context(), []byte("heard")); typist.ties.out == nil {
			t.Error("nothing is kept for who is attached")
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := typist.Follow(ctx, func(p Piece) error {
			if string(p.Data) != "heard" || p.Lost != 0 {
				t.Errorf("%+v", p)
			}
			cancel()
			return nil
		}); err != nil {
			t.Error(err)
		}
		if typist.Close(); typist.ties.out != nil {
			t.Error("output is kept for nobody")
		}
		s.end()
	})
}
