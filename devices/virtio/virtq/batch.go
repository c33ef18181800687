package virtq

// A Batch is several steps of work on a queue in one passage of its [Gate]. It never
// waits: whoever works on the queues of several devices is not to be held up by one
// that is suspended. Between Try and End nothing else of the queue may be used.
type Batch struct{ q *Queue }

// Try begins a batch, unless the device is suspended or closed.
func (q *Queue) Try() (b Batch, ok bool) {
	g := q.cfg.Gate
	if !g.access.TryRLock() {
		return Batch{}, false
	}
	if g.closed {
		g.leave()
		return Batch{}, false
	}
	return Batch{q}, true
}

// End publishes what was Put.
func (b Batch) End() error {
	defer b.q.cfg.Gate.leave()
	b.q.mu.Lock()
	defer b.q.mu.Unlock()
	return b.q.show()
}

// Pop is [Queue.Pop].
func (b Batch) Pop() (*Chain, error) { return b.q.pop() }

// Put is [Queue.Put].
func (b Batch) Put(c *Chain, written uint32) error {
	b.q.mu.Lock()
	err := b.q.put(c, written)
	b.q.mu.Unlock()
	return err
}

// Write is [Writer.Write] to the room of c.
func (b Batch) Write(c *Chain, p []byte) (int, error) { return c.Writer.write(p) }

// WaitOpen waits until the device is not suspended. It fails if it is closed.
func (q *Queue) WaitOpen() error {
	if err := q.cfg.Gate.enter(); err != nil {
		return err
	}
	q.cfg.Gate.leave()
	return nil
}
