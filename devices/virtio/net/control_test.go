package net

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"warder/devices/virtio/virtqtest"
)

// command gives the device a command and returns its answer.
func (d driver) command(class, number uint8, data []byte) uint8 {
	d.t.Helper()
	queue := len(d.Rings) - 1
	d.Rings[queue].Add(append(buffers([]byte{class, number}, data), virtqtest.Buffer{Room: 1})...)
	a := d.Answer(queue)
	if a.Written != 1 {
		d.t.Fatalf("the device wrote %d bytes", a.Written)
	}
	return a.Room[0]
}

// gets reports whether the guest gets a frame to an address.
func (d driver) gets(dev *Device, to MAC) bool {
	d.t.Helper()
	before := dev.Stats()
	d.offer(rx0, 1, 2048)
	var f Frame
	f.Fill(append(to[:], make([]byte, 54)...))
	if _, err := dev.Deliver(0, &f, 0); err != nil {
		d.t.Fatal(err)
	}
	after := dev.Stats()
	if after.Received+after.Filtered != before.Received+before.Filtered+1 {
		d.t.Fatalf("a frame is lost: %+v, %+v", before, after)
	}
	return after.Filtered == before.Filtered
}

func addresses(lists ...[]MAC) (b []byte) {
	for _, l := range lists {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(l)))
		for _, m := range l {
			b = append(b, m[:]...)
		}
	}
	return b
}

func TestFilters(t *testing.T) {
	var (
		other  = MAC{2, 7}
		group  = MAC{1, 0, 0x5e, 1}
		all    = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
		frames = []MAC{testMAC, other, group, all}
	)
	dev := newDevice(t, Config{Port: newPort()})
	d := start(t, dev, 0)
	expect := func(what string, want ...MAC) {
		t.Helper()
		var got []MAC
		for _, to := range frames {
			if d.gets(dev, to) {
				got = append(got, to)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
		d.Rings[rx0].Take()
	}
	ok := func(class, number uint8, data ...byte) {
		t.Helper()
		if a := d.command(class, number, data); a != commandOK {
			t.Errorf("command %d, %d, % x: %d", class, number, data, a)
		}
	}
	expect("before the driver has said anything", frames...)
	ok(classRx, rxPromiscuous, 0)
	expect("no other addresses", testMAC, all)
	ok(classRx, rxAllMulticast, 1)
	expect("all groups", testMAC, group, all)
	ok(classRx, rxNoMulticast, 1)
	ok(classRx, rxNoBroadcast, 1)
	ok(classRx, rxAllUnicast, 1)
	expect("all of single ones", testMAC, other)
	ok(classRx, rxNoUnicast, 1)
	expect("nothing")
	for number := range uint8(rxNoBroadcast + 1) {
		ok(classRx, number, 0)
	}
	ok(classMAC, macTableSet, addresses([]MAC{other}, []MAC{group})...)
	expect("a table", frames...)
	ok(classMAC, macTableSet, addresses(nil, []MAC{{1}, {3}})...)
	expect("another table", testMAC, all)
	ok(classMAC, macTableSet, addresses(make([]MAC, maxAddresses+1), make([]MAC, maxAddresses+1))...)
	expect("tables too long to keep", frames...)
	ok(classMAC, macTableSet, addresses(nil, nil)...)
	ok(classMAC, macAddrSet, other[:]...)
	expect("an address of the driver's", other, all)
	ok(classRx, rxPromiscuous, 1)
	expect("promiscuous", frames...)
	ok(classRx, rxPromiscuous, 0)
	d.restart(dev, 0)
	expect("after a reset", frames...)
}

func TestCommandsThatMakeNoSense(t *testing.T) {
	dev := newDevice(t, Config{Port: newPort(), Pairs: 2})
	d := start(t, dev, 0)
	before := *dev.filter.Load()
	for _, c := range [][]byte{
		{classRx, rxPromiscuous}, {classRx, 6, 1}, {2, 0, 1, 0}, {99, 0}, {classMAC, 2},
		{classMAC, macTableSet}, {classMAC, macTableSet, 1, 0, 0}, {classMAC, macTableSet, 1, 0, 0, 0, 1, 2, 3, 4, 5},
		{classMAC, macTableSet, 0, 0, 0, 0}, {classMAC, macTableSet, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6},
		{classMAC, macAddrSet, 2, 0, 0, 0, 0}, {classMAC, macAddrSet, 1, 0, 0, 0, 0, 0}, {classMAC, macAddrSet, 0, 0, 0, 0, 0, 0},
		{classMultiqueue, pairsSet, 1}, {classMultiqueue, pairsSet, 0, 0}, {classMultiqueue, pairsSet, 3, 0}, {classMultiqueue, 1, 1, 0},
		{classGuestOffloads, guestOffloadsSet, 0}, {classGuestOffloads, guestOffloadsSet, 1, 0, 0, 0, 0, 0, 0, 0}, {classGuestOffloads, 1, 0, 0, 0, 0, 0, 0, 0, 0},
		{classAnnounce, 1},
	} {
		if a := d.command(c[0], c[1], c[2:]); a != commandErr {
			t.Errorf("% x: %d", c, a)
		}
	}
	if diff := cmp.Diff(before, *dev.filter.Load(), cmp.AllowUnexported(filter{})); diff != "" {
		t.Errorf("the filter has changed: %s", diff)
	}
	// Nor are commands served that the driver did not agree on.
	d.restart(dev, featureRx|featureSetMAC|featureGuestOffloads|featureAnnounce)
	for _, c := range [][]byte{{classRx, 0, 1}, {classMAC, 1, 2, 0, 0, 0, 0, 0}, {classGuestOffloads, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {classAnnounce, 0}} {
		if a := d.command(c[0], c[1], c[2:]); a != commandErr {
			t.Errorf("% x: %d", c, a)
		}
	}
}

// TestOffloadsChange has the guest switch off, while it runs, what it takes, as it does
// for XDP.
func TestOffloadsChange(t *testing.T) {
	a, b := Wire()
	from, to := newDevice(t, Config{Port: a, MAC: MAC{2, 9}}), newDevice(t, Config{Port: b})
	sender, receiver := start(t, from, 0), start(t, to, 0)
	h, frame := gsoHeader(packet{proto: protoTCP, payload: bulk(3000)}, TCPv4, 1000)
	frames := func(features uint64) (n int) {
		set := binary.LittleEndian.AppendUint64(nil, features)
		if a := receiver.command(classGuestOffloads, guestOffloadsSet, set); a != commandOK {
			t.Fatalf("%#x: %d", features, a)
		}
		before := to.Stats().Segments
		receiver.offer(rx0, 4, 4096)
		sender.send(tx0, h, frame)
		receiver.received(rx0)
		for n = 1; ; n++ {
			if _, more := receiver.Rings[rx0].Take(); !more {
				break
			}
		}
		if cut := int(to.Stats().Segments - before); cut != 0 && cut != n {
			t.Errorf("%d frames of %d segments", n, cut)
		}
		return n
	}
	for _, c := range []struct {
		features uint64
		want     int
	}{{featureGuestCsum | featureGuestTSO4, 1}, {0, 3}, {featureGuestCsum, 3}, {featureGuestTSO4, 3}, {featureGuestCsum | featureGuestTSO4, 1}} {
		if n := frames(c.features); n != c.want {
			t.Errorf("%#x: %d frames, want %d", c.features, n, c.want)
		}
	}
}

// TestPortKnowsOffloads also has a port that takes little.
func TestPortKnowsOffloads(t *testing.T) {
	p := newPort()
	p.limit = Csum | TSO4
	dev := newDevice(t, Config{Port: p})
	const host = featureCsum | featureHostTSO4 | featureHostTSO6 | featureHostECN | featureHostUSO
	if got := dev.Info().Features & host; got != featureCsum|featureHostTSO4 {
		t.Errorf("it offers %#x", got)
	}
	d := start(t, dev, featureGuestUSO4|featureGuestUSO6)
	d.command(classGuestOffloads, guestOffloadsSet, binary.LittleEndian.AppendUint64(nil, featureGuestCsum))
	d.restart(dev, featureGuestCsum)
	p.mu.Lock()
	defer p.mu.Unlock()
	if diff := cmp.Diff([]Offloads{Csum | TSO4 | TSO6 | TSOECN, Csum, 0}, p.takes); diff != "" {
		t.Error(diff)
	}
}

func TestConfiguration(t *testing.T) {
	dev := newDevice(t, Config{Port: newPort(), MTU: 9000, Pairs: 3, Speed: 2500})
	got := make([]byte, configSize+2)
	dev.ReadConfig(got, 0)
	want := []byte{2, 0, 0, 0, 0, 1, statusLinkUp, 0, 3, 0, 0x28, 0x23, 0xc4, 9, 0, 0, 1, 0, 0}
	if !bytes.Equal(got, want) {
		t.Errorf("% x, want % x", got, want)
	}
	for _, off := range []uint64{configSize, 1 << 63, ^uint64(0)} {
		got[0] = 7
		if dev.ReadConfig(got[:1], off); got[0] != 0 {
			t.Errorf("byte %d is %d", off, got[0])
		}
	}
	for _, cfg := range []Config{
		{MAC: testMAC}, {Port: newPort()}, {Port: newPort(), MAC: MAC{1}}, {Port: newPort(), MAC: testMAC, MTU: 67},
		{Port: newPort(), MAC: testMAC, MTU: 65536}, {Port: newPort(), MAC: testMAC, Pairs: MaxPairs + 1},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v is a device", cfg)
		}
	}
}

func TestLink(t *testing.T) {
	p := newPort()
	dev := newDevice(t, Config{Port: p})
	d := start(t, dev, 0)
	status := func() uint32 { return d.Get(virtqtest.RegConfig+4) >> 16 }
	d.offer(rx0, 1, 2048)
	for range 2 {
		dev.SetLink(false)
	}
	if status() != 0 || d.Get(virtqtest.RegInterruptStatus)&2 == 0 {
		t.Errorf("the guest was not told: status %d", status())
	}
	d.send(tx0, [HeaderSize]byte{}, make([]byte, 60))
	var f Frame
	f.Fill(make([]byte, 60))
	if _, err := dev.Deliver(0, &f, 0); err != ErrDown || len(p.sent()) != 0 {
		t.Errorf("over a link that is down: %v", err)
	}
	d.nothing(rx0)
	dev.SetLink(true)
	if status() != statusLinkUp {
		t.Errorf("status %d", status())
	}
	d.send(tx0, [HeaderSize]byte{}, make([]byte, 60))
	if _, err := dev.Deliver(0, &f, 0); err != nil || len(p.sent()) != 1 {
		t.Error(err)
	}
	if s := dev.Stats(); s.SentDown != 1 || s.Down != 1 || s.Sent != 1 || s.Received != 1 {
		t.Errorf("%+v", s)
	}

	dev.Announce()
	if status() != statusLinkUp|statusAnnounce {
		t.Errorf("status %d", status())
	}
	if a := d.command(classAnnounce, announceAck, nil); a != commandOK || status() != statusLinkUp {
		t.Errorf("answer %d, then status %d", a, status())
	}
}
