package vsock

// schedule queues the connection, and wakes the worker that sends.
func (c *Conn) schedule() {
	if c.queue() {
		signal(c.d.output)
	}
}

// queue puts the connection into the line of those that have a packet to send, if it has one
// and is not there.
func (c *Conn) queue() bool {
	if c.queued || !c.hasOutput() {
		return false
	}
	if c.send.n > 0 && c.credit() == 0 && !c.asked {
		c.asked = true
		c.owe |= oweAsk
	}
	c.queued = true
	c.d.ready = append(c.d.ready, c)
	return true
}

func (c *Conn) hasOutput() bool {
	switch {
	case c.state == over:
		return false
	case c.owe != 0:
		return true
	case c.state != open:
		return false
	case c.send.n > 0:
		return c.credit() > 0 || !c.asked
	default:
		return c.shutdown != c.shutSent
	}
}

// emit makes the connection's next packet, with a payload of up to n bytes.
func (c *Conn) emit(n int) (outgoing, bool) {
	switch {
	case !c.hasOutput():
		return outgoing{}, false
	case c.owe&oweRequest != 0:
		c.owe &^= oweRequest
		c.sent = true
		return outgoing{header: c.packet(OpRequest)}, true
	case c.owe&oweResponse != 0:
		c.owe &^= oweResponse
		return outgoing{header: c.packet(OpResponse)}, true
	case c.owe&oweUpdate != 0:
		c.owe &^= oweUpdate
		return outgoing{header: c.packet(OpCreditUpdate)}, true
	case c.owe&oweAsk != 0:
		c.owe &^= oweAsk
		return outgoing{header: c.packet(OpCreditRequest)}, true
	case c.send.n > 0:
		if n = min(n, c.credit()); n <= 0 {
			return outgoing{}, false
		}
		payload := c.send.lend(n)
		h := c.packet(OpData)
		h.Len = uint32(payload.len())
		c.txCnt += h.Len
		if c.send.free() >= bufferSize/2 { // whoever waits found no room at all
			c.writable.Broadcast()
		}
		return outgoing{h, payload}, true
	default:
		c.shutSent = c.shutdown
		h := c.packet(OpShutdown)
		h.Flags = c.shutdown
		return outgoing{header: h}, true
	}
}

// packet is a header from us to the guest. Each one tells the guest its credit,
// except a reset, whose sender keeps no state.
func (c *Conn) packet(o Op) header {
	h := header{
		SrcCID: HostCID, DstCID: uint64(c.d.cid),
		SrcPort: c.ports.host, DstPort: c.ports.guest,
		Type: typeStream, Op: o,
	}
	if o != OpReset {
		h.BufAlloc, h.FwdCnt = bufferSize, c.fwdCnt
		c.told = c.fwdCnt
		c.owe &^= oweUpdate
	}
	return h
}
