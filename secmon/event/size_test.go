package event

import (
	"reflect"
	"strings"
	"testing"
)

// All that a guest has a say in is counted: a long value of any string or bytes of
// an event makes it longer by as much.
func TestBytes(t *testing.T) {
	const long = 1000
	notGuests := map[string]bool{
		"VM": true, "Action": true, // ours
		"Call.Name": true, "Call.ABI": true, "Call.File.FS": true, "Call.File.Share": true,
		"Net.Transport": true, "Net.Application": true, "Net.SourceVM": true, "Net.DestinationVM": true, "Net.DNS.Type": true, "Net.DNS.Code": true,
	}
	count := 0
	var walk func(v reflect.Value, name string, root *Event)
	walk = func(v reflect.Value, name string, root *Event) {
		switch v.Kind() {
		case reflect.Pointer:
			if v.Type() == reflect.TypeFor[*Finding]() { // of alerts, which we make
				return
			}
			v.Set(reflect.New(v.Type().Elem()))
			walk(v.Elem(), name, root)
		case reflect.Struct:
			if v.Type().PkgPath() != reflect.TypeFor[Event]().PkgPath() {
				return
			}
			for i := range v.NumField() {
				walk(v.Field(i), strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), root)
			}
		case reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i), name, root)
			}
		case reflect.String, reflect.Slice:
			if notGuests[name] {
				return
			}
			before := root.Bytes()
			if v.Kind() == reflect.String {
				v.SetString(strings.Repeat("x", long))
			} else if v.Type().Elem().Kind() == reflect.String {
				v.Set(reflect.ValueOf([]string{strings.Repeat("x", long)}))
			} else {
				v.SetBytes(make([]byte, long))
			}
			if root.Bytes() < before+long {
				t.Errorf("%s is not counted", name)
			}
			count++
		}
	}
	e := &Event{}
	walk(reflect.ValueOf(e).Elem(), "", e)
	if count < 20 || (&Event{}).Bytes() < int(reflect.TypeFor[Event]().Size()) {
		t.Errorf("%d fields, an empty event has %d bytes", count, (&Event{}).Bytes())
	}
}
