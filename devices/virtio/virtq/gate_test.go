package virtq_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/devices/virtio/virtq"
	"warder/devices/virtio/virtqtest"
)

// gated is a ring with a queue behind a gate, and a file.
func gated(t *testing.T) (*virtqtest.Ring, *virtq.Queue, *virtq.Gate, *os.File) {
	r := virtqtest.NewRing(virtqtest.NewMemory(t), 8, 0, virtqtest.MemorySize)
	g := new(virtq.Gate)
	q, err := virtq.New(r.Mem, virtq.Config{
		Size: r.Size, Desc: r.Desc(), Avail: r.Avail(), Used: r.Used(), Gate: g,
		Notify: func() error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return r, q, g, f
}

// accesses are all ways in which a device changes what a guest or a file has.
var accesses = map[string]func(*virtq.Queue, *virtq.Chain, *os.File) error{
	"pop":  func(q *virtq.Queue, _ *virtq.Chain, _ *os.File) error { _, err := q.Pop(); return err },
	"push": func(q *virtq.Queue, c *virtq.Chain, _ *os.File) error { return q.Push(c, 1) },
	"put":  func(q *virtq.Queue, c *virtq.Chain, _ *os.File) error { return q.Put(c, 1) },
	"do": func(_ *virtq.Queue, c *virtq.Chain, f *os.File) error {
		return c.Do(func() error { return f.Truncate(1) })
	},
	"show": func(q *virtq.Queue, _ *virtq.Chain, _ *os.File) error { return q.Publish() },
	"pieces": func(_ *virtq.Queue, c *virtq.Chain, _ *os.File) error {
		return c.Writer.Pieces(func(p []byte) error { clear(p); return nil })
	},
	"write": func(_ *virtq.Queue, c *virtq.Chain, _ *os.File) error {
		_, err := c.Writer.Write([]byte{1})
		return err
	},
	"split": func(_ *virtq.Queue, c *virtq.Chain, _ *os.File) error {
		_, err := c.Writer.SplitTail(1).Write([]byte{1})
		return err
	},
	"fill": func(_ *virtq.Queue, c *virtq.Chain, _ *os.File) error {
		_, err := c.Writer.Fill(bytes.NewReader([]byte{1}))
		return err
	},
	"to a file": func(_ *virtq.Queue, c *virtq.Chain, f *os.File) error { _, err := c.Reader.CopyAt(f, 0, 4); return err },
	"from a file": func(_ *virtq.Queue, c *virtq.Chain, f *os.File) error {
		_, err := c.Writer.CopyAt(zeros{}, 0, 4)
		return err
	},
	"ask for a kick": func(q *virtq.Queue, _ *virtq.Chain, _ *os.File) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := q.Wait(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, virtq.ErrClosed) {
			return err
		}
		return nil
	},
}

type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) { clear(p); return len(p), nil }

// TestShutGate tries each access at a shut gate, then opens or closes it.
func TestShutGate(t *testing.T) {
	for name, access := range accesses {
		for _, closed := range []bool{false, true} {
			r, q, g, f := gated(t)
			r.Add(virtqtest.Buffer{Data: []byte("data")}, virtqtest.Buffer{Room: 8})
			c, err := q.Pop()
			if err != nil {
				t.Fatal(err)
			}
			g.Shut()
			before := make([]byte, virtqtest.MemorySize)
			if err := r.Mem.ReadAt(before, virtqtest.Base); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- access(q, c, f) }()
			for range 1000 {
				runtime.Gosched()
			}
			after := make([]byte, virtqtest.MemorySize)
			if err := r.Mem.ReadAt(after, virtqtest.Base); err != nil {
				t.Fatal(err)
			}
			st, err := f.Stat()
			if err != nil || len(done) != 0 || !bytes.Equal(before, after) || st.Size() != 0 {
				t.Errorf("%s at a shut gate: memory changed: %v, file of %d bytes (%v)", name, !bytes.Equal(before, after), st.Size(), err)
			}
			if closed {
				g.Close()
				if err := <-done; !errors.Is(err, virtq.ErrClosed) || !errors.Is(err, context.Canceled) {
					t.Errorf("%s at a closed gate: %v", name, err)
				}
				g.Shut() // has no effect any more
				g.Open()
				continue
			}
			g.Shut() // a second one changes nothing
			g.Open()
			if err := <-done; err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestState(t *testing.T) {
	r, q, g, _ := gated(t)
	for range 3 {
		r.Add(virtqtest.Buffer{Data: []byte{1}})
	}
	var chains []*virtq.Chain
	for range 3 {
		c, err := q.Pop()
		if err != nil {
			t.Fatal(err)
		}
		chains = append(chains, c)
	}
	if err := q.Push(chains[1], 0); err != nil {
		t.Fatal(err)
	}
	g.Shut()
	defer g.Open()
	if diff := cmp.Diff(virtq.State{Next: 3, Used: 1, Shown: 1, InFlight: []uint16{0, 2}}, q.State()); diff != "" {
		t.Error(diff)
	}
}
