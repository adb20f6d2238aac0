// Command emit sends events to opsrelay's stream socket and keeps each until the relay says that it
// is durable.
//
// Emit never blocks: an event goes into a bounded channel, one goroutine writes what is there in
// one write and waits for the relay's answer. After a broken connection what was not durable is
// sent again, with the same ids. What the channel does not hold is dropped, counted, and reported
// to the relay. Go 1.19 or later, standard library only.
//
//	go run emit.go SOCKET [SECONDS] < events.ndjson
//
// sends every line, waits up to SECONDS (5) until all are durable, and prints the counts; exit
// status 0 when nothing was dropped.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	bufferEvents = 10_000
	batchEvents  = 500
	retry        = 100 * time.Millisecond // between two tries to connect
	answer       = 15 * time.Second       // then the connection is given up
)

// Emitter is safe for use by many goroutines.
type Emitter struct {
	Durable  atomic.Int64
	Rejected atomic.Int64 // broke the contract: a dead letter at the relay
	Dropped  atomic.Int64 // given up here

	path     string
	pending  atomic.Int64
	reported int64 // the goroutine's own, as is the connection
	waiting  chan string
	conn     net.Conn
	replies  *bufio.Scanner
	acked    ack
}

type ack struct{ Durable, Rejected int64 }

// NewEmitter starts the goroutine that sends; it ends with the process.
func NewEmitter(path string) *Emitter {
	e := &Emitter{path: path, waiting: make(chan string, bufferEvents)}
	go e.run()
	return e
}

// Emit takes one event as JSON text; false: no event at all, or dropped.
func (e *Emitter) Emit(event string) bool {
	if strings.TrimSpace(event) == "" {
		return false
	}
	e.pending.Add(1)
	select {
	case e.waiting <- strings.ReplaceAll(event, "\n", " "):
		return true
	default:
		e.pending.Add(-1)
		e.Dropped.Add(1)
		return false
	}
}

// Flush waits until nothing is pending; it tells how many events still are after so long.
func (e *Emitter) Flush(patience time.Duration) int64 {
	end := time.Now().Add(patience)
	for e.pending.Load() > 0 && time.Now().Before(end) {
		time.Sleep(time.Millisecond)
	}
	return e.pending.Load()
}

func (e *Emitter) run() {
	for event := range e.waiting {
		batch := []string{event}
		for len(batch) < batchEvents && len(e.waiting) > 0 {
			batch = append(batch, <-e.waiting)
		}
		for len(batch) > 0 {
			settled, err := e.deliver(batch)
			e.pending.Add(-int64(settled))
			batch = batch[settled:]
			if err != nil {
				e.disconnect()
				time.Sleep(retry)
			}
		}
	}
}

// deliver writes the batch and waits until it is settled, or tells how many events were.
func (e *Emitter) deliver(batch []string) (int, error) {
	if err := e.connect(); err != nil {
		return 0, err
	}
	lines := strings.Join(batch, "\n") + "\n"
	dropped := e.Dropped.Load()
	if lost := dropped - e.reported; lost > 0 {
		lines = fmt.Sprintf("{\"opsrelay\":{\"dropped\":%d}}\n", lost) + lines
	}
	e.conn.SetDeadline(time.Now().Add(answer))
	if _, err := e.conn.Write([]byte(lines)); err != nil {
		return 0, err
	}
	e.reported = dropped
	settled := 0
	for settled < len(batch) {
		if !e.replies.Scan() {
			return settled, errors.New("the relay closed the connection")
		}
		var next ack
		if err := json.Unmarshal(e.replies.Bytes(), &next); err != nil {
			return settled, err
		}
		durable, rejected := next.Durable-e.acked.Durable, next.Rejected-e.acked.Rejected
		e.acked = next
		e.Durable.Add(durable)
		e.Rejected.Add(rejected)
		settled += int(durable + rejected)
	}
	return settled, nil
}

func (e *Emitter) connect() error {
	if e.conn != nil {
		return nil
	}
	conn, err := net.Dial("unix", e.path)
	if err != nil {
		return err
	}
	e.conn, e.replies, e.acked = conn, bufio.NewScanner(conn), ack{}
	e.conn.SetDeadline(time.Now().Add(answer))
	_, err = conn.Write([]byte("{\"opsrelay\":{\"acks\":true}}\n"))
	return err
}

func (e *Emitter) disconnect() {
	if e.conn != nil {
		e.conn.Close()
		e.conn = nil
	}
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: emit SOCKET [SECONDS] < events.ndjson")
		os.Exit(2)
	}
	seconds := 5.0
	if len(os.Args) > 2 {
		var err error
		if seconds, err = strconv.ParseFloat(os.Args[2], 64); err != nil {
			fmt.Fprintf(os.Stderr, "emit: %q is not a number of seconds\n", os.Args[2])
			os.Exit(2)
		}
	}
	relay := NewEmitter(os.Args[1])
	events := bufio.NewScanner(os.Stdin)
	events.Buffer(nil, 128*1024)
	for events.Scan() {
		relay.Emit(events.Text())
	}
	pending := relay.Flush(time.Duration(seconds * float64(time.Second)))
	dropped := relay.Dropped.Load() + pending
	fmt.Printf("durable=%d rejected=%d dropped=%d\n",
		relay.Durable.Load(), relay.Rejected.Load(), dropped)
	if dropped > 0 || events.Err() != nil {
		os.Exit(1)
	}
}
