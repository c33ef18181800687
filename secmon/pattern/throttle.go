package pattern

import "container/list"

// throttle holds alerts back that follow others too closely.
type throttle struct {
	limit  int
	byKey  map[string]*list.Element
	recent list.List // of *quiet, the latest alert first
}

// quiet is the time after an alert.
type quiet struct {
	key  string
	from int64
	held uint64
}

// alert says whether an alert may go out at a time, and how many were held back
// since the last that did.
func (t *throttle) alert(key string, at, span int64) (held uint64, now bool) {
	if t.byKey == nil {
		t.byKey = make(map[string]*list.Element)
		t.recent.Init()
	}
	if el := t.byKey[key]; el != nil {
		q := el.Value.(*quiet)
		if at-q.from < span {
			q.held++
			return 0, false
		}
		held, q.from, q.held = q.held, at, 0
		t.recent.MoveToFront(el)
		return held, true
	}
	for len(t.byKey) >= t.limit {
		oldest := t.recent.Back()
		delete(t.byKey, oldest.Value.(*quiet).key)
		t.recent.Remove(oldest)
	}
	t.byKey[key] = t.recent.PushFront(&quiet{key: key, from: at})
	return 0, true
}
