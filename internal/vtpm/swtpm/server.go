package swtpm

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Server offers one [Device] on a data channel and a control channel. Set the
// fields, then call [Server.Serve] once.
type Server struct {
	Device Device
	// Data accepts data connections, one at a time. nil: the data channel is
	// what SET_DATAFD hands over.
	Data net.Listener
	// DataConn is a data channel that is already connected, or nil.
	DataConn net.Conn
	// Control accepts control connections. nil: there is none.
	Control net.Listener
	// ControlConn is a control channel that is already connected, or nil.
	ControlConn net.Conn
	// StopOnDataClose ends Serve when a data connection goes away (--terminate).
	StopOnDataClose bool
	// StopOnControlClose ends Serve when a control connection goes away.
	StopOnControlClose bool
	// OneCommand closes a data connection after each response.
	OneCommand bool
	// RejectLocality4 refuses SET_LOCALITY 4.
	RejectLocality4 bool
	// Dedicated says that the process serves this vTPM and nothing else: its data
	// channel may then keep a processor for a moment after each command. See direct.
	Dedicated bool
	// AllowSetLocality takes swtpm's own command for it on the data channel.
	AllowSetLocality bool

	locality   atomic.Uint32
	bufferSize atomic.Uint32
	silent     atomic.Int32 // data connections that were accepted and have sent nothing

	stopOnce sync.Once
	stopped  chan struct{}
	slot     chan struct{} // holds a token while a data channel is in use

	mu    sync.Mutex // guards conns and closed
	conns map[net.Conn]bool
	ended bool
	wg    sync.WaitGroup // every goroutine that Serve started
}

// Serve answers until SHUTDOWN, or ctx ends; then it closes every listener and
// connection, waits for them, and returns. It leaves the device as it is.
func (s *Server) Serve(ctx context.Context) error {
	if s.Device == nil || s.Data == nil && s.DataConn == nil && s.Control == nil && s.ControlConn == nil {
		return errors.New("serving a vTPM: no data and no control channel")
	}
	s.stopped = make(chan struct{})
	s.slot = make(chan struct{}, 1)
	s.conns = map[net.Conn]bool{}
	s.bufferSize.Store(usualBuffer)
	if s.DataConn != nil {
		s.attach(s.DataConn)
	}
	if s.ControlConn != nil {
		s.start(s.ControlConn, s.controlSession)
	}
	if s.Data != nil {
		s.wg.Go(s.acceptData)
	}
	if s.Control != nil {
		s.wg.Go(s.acceptControl)
	}
	select {
	case <-ctx.Done():
	case <-s.stopped:
	}
	s.stop()
	s.closeAll()
	s.wg.Wait()
	return nil
}

// stop makes Serve return; it may be called again.
func (s *Server) stop() { s.stopOnce.Do(func() { close(s.stopped) }) }

func (s *Server) closeAll() {
	for _, l := range []net.Listener{s.Data, s.Control} {
		if l != nil {
			l.Close()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for c := range s.conns {
		c.Close()
	}
}

// start runs session on c in a goroutine that Serve waits for.
func (s *Server) start(c net.Conn, session func(net.Conn)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		c.Close()
		return false
	}
	s.conns[c] = true
	s.wg.Go(func() {
		session(c)
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
	return true
}

// attach makes c the data channel, unless there is one.
func (s *Server) attach(c net.Conn) bool {
	select {
	case s.slot <- struct{}{}:
	default:
		return false
	}
	if !s.start(c, func(c net.Conn) { s.dataSession(c, func() {}) }) {
		<-s.slot
		return false
	}
	return true
}

// dataSession serves c and gives the slot back; spoke is called once c has
// sent something or gone.
func (s *Server) dataSession(c net.Conn, spoke func()) {
	s.serveData(c, spoke)
	spoke()
	<-s.slot
	if s.StopOnDataClose {
		s.stop()
	}
}

func (s *Server) controlSession(c net.Conn) {
	s.serveControl(c)
	if s.StopOnControlClose {
		s.stop()
	}
}

// acceptData takes data connections one after the other: the next one waits
// until the channel is free.
func (s *Server) acceptData() {
	for {
		c, ok := s.accept(s.Data)
		if !ok {
			return
		}
		s.silent.Add(1)
		spoke := sync.OnceFunc(func() { s.silent.Add(-1) })
		select {
		case s.slot <- struct{}{}:
		case <-s.stopped:
			c.Close()
			return
		}
		if !s.start(c, func(c net.Conn) { s.dataSession(c, spoke) }) {
			return
		}
	}
}

func (s *Server) acceptControl() {
	places := make(chan struct{}, maxControlConns)
	for {
		select {
		case places <- struct{}{}:
		case <-s.stopped:
			return
		}
		c, ok := s.accept(s.Control)
		if !ok {
			return
		}
		if !s.start(c, func(c net.Conn) { s.controlSession(c); <-places }) {
			return
		}
	}
}

// accept waits for a connection, through failures that pass (no descriptors).
func (s *Server) accept(l net.Listener) (net.Conn, bool) {
	for {
		c, err := l.Accept()
		if err == nil {
			return c, true
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, false
		}
		select {
		case <-s.stopped:
			return nil, false
		case <-time.After(acceptPause):
		}
	}
}
