package net

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"warder/devices/virtio/virtqtest"
)

// numbered is a frame with a number in it.
func numbered(n int) []byte {
	b := make([]byte, 300)
	copy(b, testMAC[:])
	binary.BigEndian.PutUint32(b[280:], uint32(n))
	return b
}

// TestFullReceiver sends much more than the receiver has room for: nothing is lost,
// the order stays, and the sender's buffers are what it waits in.
func TestFullReceiver(t *testing.T) {
	a, b := Wire()
	from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}}), newDevice(t, Config{Port: b})
	sender, receiver := start(t, from, 0), start(t, to, 0)
	const total = 500
	sent, back := 0, 0
	send := func() {
		for ; sent < total && sent-back < 20; sent++ {
			sender.Rings[tx0].Add(buffers(make([]byte, HeaderSize), numbered(sent))...)
		}
		sender.Kick(tx0)
	}
	send()
	sender.nothing(tx0)
	for got := range total {
		if got%7 == 0 {
			receiver.offer(rx0, 7, 1000)
		}
		if _, f := receiver.received(rx0); !bytes.Equal(f, numbered(got)) {
			t.Fatalf("frame %d is number %d", got, binary.BigEndian.Uint32(f[280:]))
		}
		sender.Answer(tx0)
		back++
		send()
	}
	if s := from.Stats(); s.Sent != total {
		t.Errorf("%+v", s)
	}
}

// TestSenderGoes resets the sender while its frames wait for the receiver: they are
// gone, and what the next driver sends is not.
func TestSenderGoes(t *testing.T) {
	a, b := Wire()
	from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}}), newDevice(t, Config{Port: b})
	sender, receiver := start(t, from, 0), start(t, to, 0)
	for round := range 20 {
		for i := range 5 {
			sender.Rings[tx0].Add(buffers(make([]byte, HeaderSize), numbered(i))...)
		}
		sender.Kick(tx0)
		for from.Stats().Sent != uint64(6*round+5) {
			runtime.Gosched()
		}
		sender.restart(from, 0)
		sender.Rings[tx0].Add(buffers(make([]byte, HeaderSize), numbered(1000+round))...)
		sender.Kick(tx0)
		receiver.offer(rx0, 1, 1000)
		if _, f := receiver.received(rx0); !bytes.Equal(f, numbered(1000+round)) {
			t.Fatalf("round %d: number %d", round, binary.BigEndian.Uint32(f[280:]))
		}
		sender.Answer(tx0)
	}
}

// TestReceiverGoes resets the receiver, cuts its link, and takes its queue out of use
// while frames wait: the sender gets them back each time.
func TestReceiverGoes(t *testing.T) {
	a, b := Wire()
	from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}}), newDevice(t, Config{Port: b, Pairs: 2})
	sender, receiver := start(t, from, 0), start(t, to, 0)
	pairs := func(n uint8) {
		t.Helper()
		if a := receiver.command(classMultiqueue, pairsSet, []byte{n, 0}); a != commandOK {
			t.Fatalf("answer %d", a)
		}
	}
	// A packet that belongs into the second queue.
	p := packet{proto: protoUDP}
	pairs(2)
	for f := (Frame{Head: p.bytes()}); to.Queue(&f) != 1; f.Head = p.bytes() {
		p.port++
	}
	h, frame := p.partial()
	for round, goes := range []func(){
		func() { receiver.restart(to, 0); pairs(2) },
		func() { to.SetLink(false); to.SetLink(true) },
		func() { pairs(1); pairs(2) },
		func() { receiver.Put(virtqtest.RegStatus, 0) },
	} {
		sender.Rings[tx0].Add(buffers(h[:], frame)...)
		sender.Kick(tx0)
		for from.Stats().Sent != uint64(round+1) {
			runtime.Gosched()
		}
		goes()
		sender.Answer(tx0)
	}
	sender.send(tx0, h, frame) // into nothing
}

// TestQueues sends conversations to a guest with several queues: each comes whole and
// in order in one of them, and not all in the same.
func TestQueues(t *testing.T) {
	a, b := Wire()
	from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}, Pairs: 3}), newDevice(t, Config{Port: b, Pairs: 4})
	sender, receiver := start(t, from, 0), start(t, to, 0)
	if a := receiver.command(classMultiqueue, pairsSet, []byte{4, 0}); a != commandOK {
		t.Fatal(a)
	}
	for queue := range 4 {
		receiver.offer(2*queue, 60, 500)
	}
	const conversations, each = 8, 6
	for i := range each {
		for c := range conversations {
			p := packet{proto: protoTCP, v6: c%2 == 1, port: uint16(c), seq: uint32(i)}
			h, frame := p.partial()
			sender.send(2*(c%3)+1, h, frame)
		}
	}
	queueOf, next, used := map[uint16]int{}, map[uint16]uint32{}, map[int]bool{}
	for queue := range 4 {
		for {
			answer, ok := receiver.Rings[2*queue].Take()
			if !ok {
				break
			}
			frame := answer.Room[HeaderSize:answer.Written]
			l, _ := parse(frame)
			port, seq := binary.BigEndian.Uint16(frame[l.l4:]), binary.BigEndian.Uint32(frame[l.l4+4:])
			if q, ok := queueOf[port]; ok && q != queue {
				t.Errorf("conversation %d is in queues %d and %d", port, q, queue)
			}
			if seq != next[port] {
				t.Errorf("conversation %d: %d, want %d", port, seq, next[port])
			}
			queueOf[port], used[queue] = queue, true
			next[port]++
		}
	}
	if len(next) != conversations || len(used) < 2 {
		t.Errorf("%d conversations in %d queues", len(next), len(used))
	}
	for port, n := range next {
		if n != each {
			t.Errorf("conversation %d: %d frames", port, n)
		}
	}
	// An answer goes where the question came from.
	p := packet{proto: protoTCP}.bytes()
	back := bytes.Clone(p)
	copy(back[26:], p[30:34])
	copy(back[30:], p[26:30])
	copy(back[34:], p[36:38])
	copy(back[36:], p[34:36])
	if flow(p) != flow(back) {
		t.Error("the two directions are two conversations")
	}
}

// TestSuspendedReceiver pauses the receiver's device: who sends to it is not held up,
// can be reset, and what it sent is not lost.
func TestSuspendedReceiver(t *testing.T) {
	a, b := Wire()
	from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}}), newDevice(t, Config{Port: b})
	sender, receiver := start(t, from, 0), start(t, to, 0)
	receiver.offer(rx0, 10, 1000)
	receiver.Suspend()
	sender.Rings[tx0].Add(buffers(make([]byte, HeaderSize), numbered(0))...)
	sender.Kick(tx0)
	for from.Stats().Sent != 1 {
		runtime.Gosched()
	}
	receiver.nothing(rx0)
	sender.restart(from, 0) // does not wait for the receiver
	sender.Rings[tx0].Add(buffers(make([]byte, HeaderSize), numbered(1))...)
	sender.Kick(tx0)
	for from.Stats().Sent != 2 {
		runtime.Gosched()
	}
	receiver.Resume()
	sender.Answer(tx0)
	if _, f := receiver.received(rx0); !bytes.Equal(f, numbered(1)) {
		t.Errorf("number %d", binary.BigEndian.Uint32(f[280:]))
	}
}

// TestSuspendedSender has the sender's machine paused while the receiver gives its frames
// back: the receiver goes on.
func TestSuspendedSender(t *testing.T) {
	p := newPort()
	p.hold = true
	dev := newDevice(t, Config{Port: p})
	d := start(t, dev, 0)
	d.Rings[tx0].Add(buffers(make([]byte, HeaderSize), numbered(0))...)
	d.Kick(tx0)
	for dev.Stats().Sent != 1 {
		runtime.Gosched()
	}
	d.Suspend()
	p.mu.Lock()
	p.held[0].Release()
	p.held = nil
	p.mu.Unlock()
	d.nothing(tx0)
	d.Resume()
	d.Answer(tx0)
}

// TestNoBuffer has frames that are longer than the guest's buffers.
func TestNoBuffer(t *testing.T) {
	for _, without := range []uint64{featureMergeable, 0} {
		dev := newDevice(t, Config{Port: newPort()})
		d := start(t, dev, without)
		var f Frame
		f.Fill(make([]byte, 1000))
		if without == 0 {
			d.offer(rx0, int(d.Rings[rx0].Size), HeaderSize) // all that there are, and too few
		} else {
			d.offer(rx0, 2, 500)
		}
		if _, err := dev.Deliver(0, &f, 0); err != nil || dev.Stats().NoBuffer != 1 {
			t.Errorf("%v, %+v", err, dev.Stats())
		}
		f.Fill(make([]byte, 100))
		if _, err := dev.Deliver(0, &f, 0); err != nil {
			t.Error(err)
		}
		if _, got := d.received(rx0); len(got) != 100 {
			t.Errorf("%d bytes", len(got))
		}
	}
	// A buffer without room for a header is no buffer.
	dev := newDevice(t, Config{Port: newPort()})
	d := start(t, dev, 0)
	d.offer(rx0, 1, HeaderSize-1)
	d.offer(rx0, 1, 1000)
	var f Frame
	f.Fill(make([]byte, 100))
	if _, err := dev.Deliver(0, &f, 0); err != ErrDown {
		t.Error(err)
	}
	d.NeedsReset()
}
