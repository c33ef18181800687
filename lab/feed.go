package lab

import (
	"io"
	"sync"
	"sync/atomic"

	"warder/lab/wire"
)

// A feed is what goes to one command: input, signals, terminal sizes. Nothing
// of it is sent after its end: it would reach the next command.
type feed struct {
	w    *wire.Writer
	over chan struct{}

	mu     sync.Mutex // held while sending
	ended  bool
	window int // bytes of input that may be sent
	more   sync.Cond
}

func newFeed(w *wire.Writer) *feed {
	f := &feed{w: w, over: make(chan struct{}), window: wire.StdinWindow}
	f.more.L = &f.mu
	return f
}

// end is the feed's end. A frame that is being sent is waited for.
func (f *feed) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	close(f.over)
	f.more.Broadcast()
}

// credit says that the command took n bytes of its input.
func (f *feed) credit(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.window += n
	f.more.Broadcast()
}

// send sends v unless the feed has ended. A broken stream is for its reader
// to see.
func (f *feed) send(t wire.Type, v any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		_ = f.w.WriteJSON(t, v)
	}
}

// input passes r on, never more than the window ahead of the command. A read
// that is under way when the command ends cannot be taken back: what it
// returns is lost.
func (f *feed) input(r io.Reader) {
	if r != nil {
		buf := make([]byte, 32<<10)
		for {
			n, err := r.Read(buf)
			if !f.bytes(buf[:n]) {
				return
			}
			if err != nil {
				break
			}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		_ = f.w.Write(wire.StdinEnd, nil)
	}
}

// bytes sends p when the window allows, and reports whether there is a point
// in sending more.
func (f *feed) bytes(p []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.window < len(p) && !f.ended {
		f.more.Wait()
	}
	if f.ended {
		return false
	}
	f.window -= len(p)
	return len(p) == 0 || f.w.Write(wire.Stdin, p) == nil
}

// events passes signals and terminal sizes on until the end.
func (f *feed) events(c Command) {
	var resized <-chan [2]uint16
	if c.Terminal != nil {
		resized = c.Terminal.Resized
	}
	for {
		select {
		case n := <-c.Signals:
			f.send(wire.Signal, wire.Count{N: n})
		case s := <-resized:
			f.send(wire.Resize, wire.Size{Columns: s[0], Rows: s[1]})
		case <-f.over:
			return
		}
	}
}

// A countingReader knows how much was read from it.
type countingReader struct {
	r io.Reader
	n atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}
