package api

import (
	"errors"
	"io"
	"sync"
)

// inputWindow is how many bytes of input a client may be ahead of what takes them. For
// those that were taken it is told that it may send as many more (frameCredit): a
// command that does not read holds up its input, and none of the frames behind it.
const inputWindow = 64 << 10

// input is what a client has sent ahead.
type input struct {
	credit func(bytes int) // tells the client what it may send more

	mu    sync.Mutex
	more  *sync.Cond
	buf   []byte
	ended bool
}

func newInput(credit func(bytes int)) *input {
	i := &input{credit: credit}
	i.more = sync.NewCond(&i.mu)
	return i
}

var errAhead = errors.New("more input than there is credit for")

// put adds to the input, without waiting.
func (i *input) put(p []byte) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.buf)+len(p) > inputWindow {
		return errAhead
	}
	if !i.ended {
		i.buf = append(i.buf, p...)
		i.more.Broadcast()
	}
	return nil
}

// end says that nothing follows.
func (i *input) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ended = true
	i.more.Broadcast()
}

// Read waits for input.
func (i *input) Read(p []byte) (int, error) {
	i.mu.Lock()
	for len(i.buf) == 0 && !i.ended {
		i.more.Wait()
	}
	n := copy(p, i.buf)
	if i.buf = i.buf[n:]; len(i.buf) == 0 {
		i.buf = nil
	}
	i.mu.Unlock()
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	i.credit(n)
	return n, nil
}

// credit is how many bytes of input a client may send.
type credit struct {
	mu   sync.Mutex
	more *sync.Cond
	left int
	over bool
}

func newCredit() *credit {
	c := &credit{left: inputWindow}
	c.more = sync.NewCond(&c.mu)
	return c
}

func (c *credit) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = min(c.left+max(n, 0), inputWindow)
	c.more.Broadcast()
}

// end lets nobody wait any more.
func (c *credit) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	c.more.Broadcast()
}

// take waits until something may be sent, and gives how much of most that is; 0 when
// nothing will be any more.
func (c *credit) take(most int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.left == 0 && !c.over {
		c.more.Wait()
	}
	if c.over {
		return 0
	}
	n := min(most, c.left)
	c.left -= n
	return n
}

// send sends input as frames until it ends, as there is credit for it.
func (c *credit) send(in io.Reader, out *frames) {
	buf := make([]byte, 32<<10)
	for {
		n, err := in.Read(buf)
		for p := buf[:n]; len(p) > 0; {
			k := c.take(len(p))
			if k == 0 || out.write(frameInput, p[:k]) != nil {
				return // the command has ended
			}
			p = p[k:]
		}
		if errors.Is(err, io.EOF) {
			_ = out.write(frameInputEnd, nil) // or the command has ended
		}
		if err != nil {
			return
		}
	}
}
