package event

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// MarshalJSON writes the event with the field names of the Elastic Common
// Schema 8. What the schema has no name for is under "warder". Strings from a
// guest are escaped as JSON demands; bytes that are not UTF-8 are replaced, the
// exact bytes of a payload are in base64.
func (e Event) MarshalJSON() ([]byte, error) {
	l, err := toLine(e)
	if err != nil {
		return nil, err
	}
	return json.Marshal(l)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (e *Event) UnmarshalJSON(p []byte) error {
	var l line
	if err := json.Unmarshal(p, &l); err != nil {
		return err
	}
	got, err := l.event()
	if err != nil {
		return err
	}
	*e = got
	return nil
}

// ecsVersion is the version of the schema that field names are from.
const ecsVersion = "8.11.0"

// line is an event as JSON has it.
type line struct {
	Timestamp   time.Time  `json:"@timestamp"`
	ECS         ecsMeta    `json:"ecs"`
	Message     string     `json:"message,omitempty"`
	Event       ecsEvent   `json:"event"`
	Host        *ecsHost   `json:"host,omitempty"`
	Process     *ecsProc   `json:"process,omitempty"`
	User        *ecsUser   `json:"user,omitempty"`
	File        *ecsFile   `json:"file,omitempty"`
	Source      *ecsEnd    `json:"source,omitempty"`
	Destination *ecsEnd    `json:"destination,omitempty"`
	Network     *ecsNet    `json:"network,omitempty"`
	DNS         *ecsDNS    `json:"dns,omitempty"`
	HTTP        *ecsHTTP   `json:"http,omitempty"`
	URL         *ecsURL    `json:"url,omitempty"`
	UserAgent   *ecsAgent  `json:"user_agent,omitempty"`
	TLS         *ecsTLS    `json:"tls,omitempty"`
	Log         *ecsLog    `json:"log,omitempty"`
	Rule        *ecsRule   `json:"rule,omitempty"`
	Warder      warderPart `json:"warder"`
}

type ecsMeta struct {
	Version string `json:"version"`
}

type ecsEvent struct {
	Kind     string   `json:"kind"`
	Module   string   `json:"module"`
	Dataset  string   `json:"dataset"` // which Kind
	Category []string `json:"category,omitempty"`
	Type     []string `json:"type,omitempty"`
	Action   string   `json:"action"`
	Sequence uint64   `json:"sequence,omitempty"`
	Duration int64    `json:"duration,omitempty"` // nanoseconds
}

type ecsHost struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

type ecsProc struct {
	PID         uint32    `json:"pid"`
	Name        string    `json:"name"`
	Executable  string    `json:"executable,omitempty"`
	Args        []string  `json:"args,omitempty"`
	CommandLine string    `json:"command_line,omitempty"`
	Dir         string    `json:"working_directory,omitempty"`
	Thread      ecsThread `json:"thread"`
	Parent      ecsParent `json:"parent"`
}

type ecsThread struct {
	ID uint32 `json:"id"`
}

type ecsParent struct {
	PID         uint32   `json:"pid"`
	Executable  string   `json:"executable,omitempty"`
	Args        []string `json:"args,omitempty"`
	CommandLine string   `json:"command_line,omitempty"`
}

type ecsUser struct {
	ID        string     `json:"id"`
	Name      string     `json:"name,omitempty"`
	Effective *ecsUserID `json:"effective,omitempty"`
}

type ecsUserID struct {
	ID string `json:"id"`
}

type ecsFile struct {
	Path  string `json:"path"`
	Inode string `json:"inode,omitempty"`
	Size  int64  `json:"size,omitempty"`
}

// takenPart is a response as it was carried out.
type takenPart struct {
	Response string `json:"response"`
	VM       string `json:"vm"`
	Detail   string `json:"detail,omitempty"`
	Failed   string `json:"error,omitempty"`
}

type ecsRule struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// warderPart is what the schema has no names for.
type warderPart struct {
	VCPU      int32       `json:"vcpu"`
	Login     *uint32     `json:"login_id,omitempty"`
	Syscall   *callPart   `json:"syscall,omitempty"`
	Range     *rangePart  `json:"range,omitempty"`
	Access    *accessPart `json:"access,omitempty"`
	Lost      uint64      `json:"lost,omitempty"`
	Level     string      `json:"level,omitempty"`
	VMs       []string    `json:"vms,omitempty"`
	Acts      []Event     `json:"acts,omitempty"`
	Matched   []string    `json:"matched,omitempty"`
	Response  string      `json:"response,omitempty"`
	Taken     []takenPart `json:"taken,omitempty"`
	Count     uint64      `json:"count,omitempty"`
	Excepted  uint64      `json:"excepted,omitempty"`
	Share     *sharePart  `json:"share,omitempty"`
	FS        string      `json:"filesystem,omitempty"`
	Inner     string      `json:"inner_path,omitempty"`
	Absent    bool        `json:"absent,omitempty"`
	Flow      uint64      `json:"flow,omitempty"`
	Initiated bool        `json:"initiated,omitempty"`
	Payload   []byte      `json:"payload,omitempty"`
}

// rangePart is which bytes of a file an event is about that is no system call.
type rangePart struct {
	Offset  int64  `json:"offset"`
	Size    uint64 `json:"size"`
	Append  bool   `json:"append,omitempty"`
	Payload []byte `json:"payload,omitempty"`
}

type sharePart struct {
	Directory string `json:"directory"`
	Device    uint64 `json:"device,omitempty"`
}

type callPart struct {
	Name    string    `json:"name"`
	Number  uint32    `json:"number"`
	ABI     string    `json:"abi,omitempty"`
	Args    [6]string `json:"args"`
	Data    []argPart `json:"data,omitempty"`
	FD      int32     `json:"fd"`
	Path    string    `json:"path,omitempty"`
	Flags   uint32    `json:"flags,omitempty"`
	Offset  int64     `json:"offset"`
	Append  bool      `json:"append,omitempty"`
	Size    uint64    `json:"size,omitempty"`
	Payload []byte    `json:"payload,omitempty"`
	Missing []string  `json:"missing,omitempty"`
	Denied  uint16    `json:"denied_errno,omitempty"`
	Result  *int64    `json:"result,omitempty"`
}

// argPart is what a parameter points to.
type argPart struct {
	Param int    `json:"param"`
	Bytes []byte `json:"bytes"`
}

// kinds gives event.kind, the name in event.dataset, the category and, for
// kinds that fix it, the action.
var kinds = map[Kind]ecsEvent{
	Lifecycle:     {Kind: "event", Dataset: "lifecycle", Category: []string{"host"}, Type: []string{"info"}, Action: "lifecycle"},
	Syscall:       {Kind: "event", Dataset: "syscall"},
	Alert:         {Kind: "alert", Dataset: "alert", Category: []string{"intrusion_detection"}, Type: []string{"info"}, Action: "alert"},
	Loss:          {Kind: "pipeline_error", Dataset: "loss", Action: "events-lost"},
	Task:          {Kind: "event", Dataset: "task", Category: []string{"process"}},
	FileAct:       {Kind: "event", Dataset: "file", Category: []string{"file"}},
	Flow:          {Kind: "event", Dataset: "flow", Category: []string{"network"}},
	Packet:        {Kind: "event", Dataset: "packet", Category: []string{"network"}, Type: []string{"protocol"}},
	Guard:         {Kind: "event", Dataset: "guard", Category: []string{"malware"}, Type: []string{"info"}},
	Host:          {Kind: "event", Dataset: "host", Category: []string{"configuration"}, Type: []string{"change"}},
	Introspection: {Kind: "event", Dataset: "introspection", Category: []string{"intrusion_detection"}, Type: []string{"info"}},
	Privileged:    {Kind: "event", Dataset: "privileged", Category: []string{"host"}, Type: []string{"info"}},
	Anomaly:       {Kind: "event", Dataset: "anomaly", Category: []string{"network", "intrusion_detection"}, Type: []string{"info"}},
	LogLine:       {Kind: "event", Dataset: "log", Type: []string{"info"}, Action: "log"},
}

// types gives event.type of actions, for kinds that do not fix it.
var types = map[string]string{
	Began: "start", Ran: "start", Ended: "end",
	Connected: "connection", Accepted: "connection", Sent: "info", Received: "info",
	ShareRead: "access", ShareWrite: "change", ShareTruncate: "change", ShareCreate: "creation",
	Created: "creation", Changed: "change", Removed: "deletion", Renamed: "change", Opened: "access",
}

func toLine(e Event) (line, error) {
	ev, ok := kinds[e.Kind]
	if !ok {
		return line{}, fmt.Errorf("event of unknown kind %d", e.Kind)
	}
	ev.Sequence, ev.Module, ev.Dataset = e.Seq, "warder", "warder."+ev.Dataset
	if e.Action != "" {
		ev.Action = e.Action
		if t := types[e.Action]; ev.Type == nil && t != "" {
			ev.Type = []string{t}
		}
	}
	l := line{
		Timestamp: time.Unix(0, e.Time).UTC(),
		ECS:       ecsMeta{ecsVersion},
		Message:   e.Message,
		Event:     ev,
		Warder:    warderPart{VCPU: e.VCPU, Lost: e.Lost},
	}
	if e.VM != "" {
		l.Host = &ecsHost{e.VM, "vm"}
	}
	if e.Process != (Process{}) || e.Kind == Syscall && e.Call.Missing&MissingProcess == 0 {
		l.addProcess(&e.Process)
	}
	l.addFile(&e.Call.File)
	if c := &e.Call; e.Kind == Syscall {
		l.addCall(c)
	} else if c.Size != 0 || len(c.Payload) > 0 {
		l.Warder.Range = &rangePart{c.Offset, c.Size, c.Append, c.Payload}
	}
	if e.Net != nil {
		l.addNet(e.Net)
	}
	if e.Access != nil {
		l.Warder.Access = toAccess(e.Access)
	}
	if g := e.Log; g != nil {
		l.Log = &ecsLog{Syslog: ecsSyslog{g.Program, ecsFacility{g.Facility}, ecsSeverity{g.Severity}}, Original: g.Text}
	}
	if f := e.Finding; f != nil {
		l.Rule = &ecsRule{f.RuleID, f.RuleTitle}
		w := &l.Warder
		w.Level, w.VMs, w.Acts, w.Matched = f.Level, f.VMs, f.Acts, f.Matched
		w.Response, w.Count, w.Excepted = f.Response, f.Count, f.Excepted
		for _, t := range f.Taken {
			w.Taken = append(w.Taken, takenPart(t))
		}
	}
	return l, nil
}

func (l *line) addProcess(p *Process) {
	l.Process = &ecsProc{
		PID: p.PID, Name: p.Name, Executable: p.Exe, Args: splitArgs(p.Args), CommandLine: CommandLine(p.Args), Dir: p.Dir,
		Thread: ecsThread{p.TID},
		Parent: ecsParent{p.Parent, p.ParentExe, splitArgs(p.ParentArgs), CommandLine(p.ParentArgs)},
	}
	l.User = &ecsUser{ID: id(p.UID), Name: p.User, Effective: &ecsUserID{id(p.EUID)}}
	if p.LoggedIn {
		l.Warder.Login = &p.Login
	}
}

// splitArgs gives the arguments of a list in which each ends with a NUL.
func splitArgs(args string) []string {
	if args == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(args, "\x00"), "\x00")
}

// CommandLine is a process's Args as one line, with spaces between.
func CommandLine(args string) string {
	return strings.ReplaceAll(strings.TrimSuffix(args, "\x00"), "\x00", " ")
}

func (l *line) addFile(f *File) {
	if *f == (File{}) {
		return
	}
	l.File = &ecsFile{Path: f.Path, Size: f.Size}
	if f.Inode != 0 {
		l.File.Inode = strconv.FormatUint(f.Inode, 10)
	}
	l.Warder.FS, l.Warder.Inner, l.Warder.Absent = f.FS, f.Inner, f.Absent
	if f.Share != "" {
		l.Warder.Share = &sharePart{f.Share, f.Device}
	}
}

func (l *line) addCall(c *Call) {
	l.Event.Action = c.Name
	switch c.Name {
	case "execve", "execveat":
		l.Event.Category, l.Event.Type = []string{"process"}, []string{"start"}
	case "openat":
		l.Event.Category, l.Event.Type = []string{"file"}, []string{"access"}
	case "write", "pwrite64", "writev", "pwritev", "pwritev2":
		l.Event.Category, l.Event.Type = []string{"file"}, []string{"change"}
	}
	if c.Denied != 0 {
		l.Event.Type = append(l.Event.Type, "denied")
	}
	part := &callPart{
		Name: c.Name, Number: c.Number, ABI: c.ABI, FD: c.FD, Path: c.Path, Flags: c.Flags, Offset: c.Offset,
		Append: c.Append, Size: c.Size, Payload: c.Payload, Missing: c.Missing.Names(), Denied: c.Denied,
	}
	for i, a := range c.Args {
		part.Args[i] = "0x" + strconv.FormatUint(a, 16)
	}
	for i, d := range c.Data {
		if c.Read&(1<<i) != 0 {
			part.Data = append(part.Data, argPart{i, []byte(d)})
		}
	}
	if c.Returned {
		part.Result, l.Event.Duration = &c.Result, c.Took
	}
	l.Warder.Syscall = part
}

func (l *line) addNet(n *Net) {
	end := func(a netip.AddrPort, vm string, bytes, packets uint64) *ecsEnd {
		e := &ecsEnd{Bytes: bytes, Packets: packets}
		if a.IsValid() {
			e.IP, e.Port = a.Addr().String(), uint32(a.Port())
		}
		if vm != "" {
			e.VM = vm
		}
		return e
	}
	l.Source = end(n.Source, n.SourceVM, n.Bytes[0], n.Packets[0])
	l.Destination = end(n.Destination, n.DestinationVM, n.Bytes[1], n.Packets[1])
	l.Destination.Domain = n.Host
	for i, e := range [...]*ecsEnd{l.Source, l.Destination} {
		if v := n.Vsock[i]; v != (VsockEnd{}) {
			e.Address, e.Port = id(v.CID), v.Port
		}
	}
	l.Network = &ecsNet{Transport: n.Transport, Protocol: n.Application, Community: CommunityID(n.Transport, n.Source, n.Destination)}
	if n.VLAN != 0 {
		l.Network.VLAN = &ecsVLAN{strconv.Itoa(int(n.VLAN))}
	}
	l.Warder.Flow, l.Warder.Initiated, l.Warder.Payload = n.Flow, n.Initiated, n.Payload
	if d := n.DNS; d != nil {
		l.DNS = &ecsDNS{Question: ecsQuestion{d.Name, d.Type}, Code: d.Code}
		for _, a := range d.Answers {
			l.DNS.Answers = append(l.DNS.Answers, ecsAnswer{a})
		}
	}
	if h := n.HTTP; h != nil {
		l.HTTP = &ecsHTTP{Request: ecsRequest{h.Method}, Response: ecsResponse{h.Status}}
		l.URL = &ecsURL{h.Host, h.Path, h.Query}
		l.UserAgent = &ecsAgent{h.UserAgent}
	}
	if t := n.TLS; t != nil {
		l.TLS = &ecsTLS{ecsHello{t.ServerName, t.ALPN, t.JA4}}
	}
}

func id(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// KindOf gives the kind that event.dataset calls "warder." and then name.
func KindOf(name string) (Kind, bool) {
	for k, fixed := range kinds {
		if fixed.Dataset == name {
			return k, true
		}
	}
	return 0, false
}

// String is the name that KindOf knows a kind by.
func (k Kind) String() string { return kinds[k].Dataset }
