package share

import (
	"fmt"
	"path"
	"time"

	"warder/devices/virtio/fs"
	"warder/secmon/event"
)

// shareFS is the file system's type in a guest.
const shareFS = "virtiofs"

// file is the file of an access as events have it.
func (w *watcher) file(a *fs.Access) event.File {
	inner := a.Path()
	return event.File{
		Path: path.Join(w.dir, inner), FS: shareFS, Share: w.dir, Inner: inner, Device: a.Device, Inode: a.Inode, Size: a.Length(),
	}
}

// message is the event of what a VM is about to read of another.
func (w *watcher) message(a *fs.Access, h message, now int64) event.Event {
	e := event.Event{
		Time: now, Kind: event.Packet, Action: event.FileMessage, VM: h.writer,
		Process: event.Process{PID: h.pid, UID: h.uid, EUID: h.uid},
		Net: &event.Net{
			Flow: event.FileFlowID(a.Device, a.Inode), Transport: event.Share, SourceVM: h.writer, DestinationVM: w.vm, Initiated: true,
			Bytes: [2]uint64{uint64(h.to - h.from)}, Payload: start(a, h.from, min(h.to-h.from, int64(w.m.cfg.Message()))),
		},
	}
	e.Call.File = w.file(a)
	e.Call.Offset, e.Call.Size = h.from, uint64(h.to-h.from)
	e.Message = fmt.Sprintf("%s reads %d bytes of %s at %d that %s wrote %v before", w.vm, h.to-h.from, e.Call.File.Path, h.from, h.writer, time.Duration(now-h.at).Round(time.Millisecond))
	return e
}

// act is the event of an access itself, with n bytes of content at most.
func (w *watcher) act(a *fs.Access, n int, now int64) event.Event {
	e := event.Event{Time: now, Kind: event.FileAct, VM: w.vm, Process: event.Process{PID: a.PID, UID: a.UID, EUID: a.UID}}
	c := &e.Call
	c.File = w.file(a)
	c.Offset, c.Size, c.Append = a.Offset, uint64(max(a.Size, 0)), a.Append
	switch a.Kind {
	case fs.Read:
		// What the file begins with is what a rule can know it by.
		e.Action, c.Payload = event.ShareRead, start(a, 0, int64(n))
	case fs.Write:
		// The device uses its memory again.
		e.Action, c.Payload = event.ShareWrite, append([]byte(nil), a.Content...)
	case fs.Truncate:
		e.Action = event.ShareTruncate
	case fs.Create:
		e.Action = event.ShareCreate
	}
	return e
}

// start reads at most n bytes of a file, nil where that cannot be.
func start(a *fs.Access, off, n int64) []byte {
	if n = min(n, a.Length()-off); n <= 0 {
		return nil
	}
	p := make([]byte, n)
	got, _ := a.ReadAt(p, off) // what there is not is not shown
	return p[:got]
}
