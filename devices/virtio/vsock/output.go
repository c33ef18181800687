package vsock

// schedule puts the connection into the line of those that have a packet to send.
func (c *Conn) schedule() {
	if c.queued || !c.hasOutput() {
		return
	}
	if c.send.n > 0 && c.credit() == 0 && !c.asked {
		c.asked = true
		c.owe |= oweAsk
	}
	c.queued = true
	c.d.ready = append(c.d.ready, c)
	signal(c.d.output)
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

// emit makes the connection's next packet; its payload, of up to len(p) bytes, is
// in p.
func (c *Conn) emit(p []byte) (header, int, bool) {
	switch {
	case !c.hasOutput():
		return header{}, 0, false
	case c.owe&oweRequest != 0:
		c.owe &^= oweRequest
		c.sent = true
		return c.packet(OpRequest), 0, true
	case c.owe&oweResponse != 0:
		c.owe &^= oweResponse
		return c.packet(OpResponse), 0, true
	case c.owe&oweUpdate != 0:
		c.owe &^= oweUpdate
		return c.packet(OpCreditUpdate), 0, true
	case c.owe&oweAsk != 0:
		c.owe &^= oweAsk
		return c.packet(OpCreditRequest), 0, true
	case c.send.n > 0:
		n := c.send.read(p[:min(len(p), c.credit())])
		if n == 0 {
			return header{}, 0, false
		}
		h := c.packet(OpData)
		h.Len = uint32(n)
		c.txCnt += uint32(n)
		if c.send.free() >= bufferSize/2 { // whoever waits found no room at all
			c.writable.Broadcast()
		}
		return h, n, true
	default:
		c.shutSent = c.shutdown
		h := c.packet(OpShutdown)
		h.Flags = c.shutdown
		return h, 0, true
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
