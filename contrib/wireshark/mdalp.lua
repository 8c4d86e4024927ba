-- Wireshark dissector for MDALP, all message types of docs/protocol.md.
--
-- Use it once:        wireshark -X lua_script:mdalp.lua FILE.pcapng
-- or for good:        copy it to the personal plugin folder (Help > About > Folders).
--
-- Everything in the header is a field that can be filtered on, such as mdalp.seq == 8 or
-- mdalp.retransmission. Requests and answers are linked both ways: an intent and its assignment, a
-- chunk and its ack, a seal and its reply. A datagram on an interface named mdalp-lost (mdalp's own
-- captures of emulated networks) never arrived, and so answers nothing.

local mdalp = Proto("mdalp", "Multi Destination Application Layer Protocol")

local types = {
    [0] = "Intent", [1] = "Assignment", [2] = "Data", [3] = "Ack", [4] = "Seal", [5] = "Seal reply",
    [6] = "Queued", [7] = "Probe", [8] = "Probe reply",
}

local f = {
    type = ProtoField.uint8("mdalp.type", "Type", base.DEC, types),
    tid = ProtoField.uint64("mdalp.tid", "Transaction"),
    seq = ProtoField.uint64("mdalp.seq", "Sequence number"),
    chunks = ProtoField.uint64("mdalp.chunks", "Chunks"),
    nonce = ProtoField.string("mdalp.nonce", "Nonce"),
    position = ProtoField.uint64("mdalp.queued.position", "Place in the queue"),
    crc = ProtoField.uint32("mdalp.crc", "CRC-32C", base.HEX),
    data = ProtoField.bytes("mdalp.data", "Data"),
    len = ProtoField.uint32("mdalp.data.len", "Bytes of data"),
    list = ProtoField.string("mdalp.list", "Receivers"),
    receiver = ProtoField.string("mdalp.receiver", "Receiver"),
    address = ProtoField.string("mdalp.receiver.address", "Address"),
    name = ProtoField.string("mdalp.receiver.name", "Name"),
    caps = ProtoField.string("mdalp.receiver.caps", "Capabilities"),
    bytes = ProtoField.uint64("mdalp.seal.bytes", "Payload bytes"),
    blake3 = ProtoField.string("mdalp.seal.blake3", "Payload BLAKE3"),
    verdict = ProtoField.string("mdalp.seal.verdict", "Verdict"),
    request = ProtoField.framenum("mdalp.request_in", "Request in", base.NONE, frametype.REQUEST),
    response = ProtoField.framenum("mdalp.response_in", "Answer in", base.NONE, frametype.RESPONSE),
    time = ProtoField.double("mdalp.response_time", "Time since the request (s)"),
    first = ProtoField.framenum("mdalp.retransmission_of", "First sent in", base.NONE,
        frametype.RETRANS_PREV),
    retransmission = ProtoField.bool("mdalp.retransmission", "Retransmission"),
    duplicate = ProtoField.bool("mdalp.duplicate", "Duplicate answer"),
    lost = ProtoField.bool("mdalp.lost", "Lost on the way"),
}
for _, field in pairs(f) do
    table.insert(mdalp.fields, field)
end

local e = {
    malformed = ProtoExpert.new("mdalp.malformed", "Not a message of MDALP", expert.group.MALFORMED,
        expert.severity.WARN),
    resent = ProtoExpert.new("mdalp.resent", "Sent again", expert.group.SEQUENCE,
        expert.severity.NOTE),
    again = ProtoExpert.new("mdalp.answered_again", "Answered again", expert.group.SEQUENCE,
        expert.severity.CHAT),
    gone = ProtoExpert.new("mdalp.gone", "Lost on the way", expert.group.SEQUENCE,
        expert.severity.NOTE),
}
mdalp.experts = { e.malformed, e.resent, e.again, e.gone }

local interface_name = Field.new("frame.interface_name")

-- What was asked, by conversation and message: { frames, times, answer, answer_time }.
local requests = {}
-- By frame: what a second pass needs to know.
local frames = {}

function mdalp.init()
    requests = {}
    frames = {}
end

-- Reads "NAME:digits;" at `at` and returns the digits' range, the value and what follows.
local function number(text, at, name)
    local from, to, digits = text:find("^" .. name .. ":(%d+);?", at)
    if not from or #digits > 20 then return nil end
    local value = UInt64.new(0)
    for digit in digits:gmatch("%d") do
        value = value * 10 + UInt64.new(tonumber(digit))
    end
    local begins = from + #name + 1
    return { from = begins - 1, len = #digits, value = value, digits = digits }, to + 1
end

-- The identity of a request, whichever of its two ends the frame comes from.
local function key(pinfo, forward, what)
    local client, server = pinfo.src, pinfo.dst
    local client_port, server_port = pinfo.src_port, pinfo.dst_port
    if not forward then
        client, server = server, client
        client_port, server_port = server_port, client_port
    end
    return table.concat({ tostring(client), client_port, tostring(server), server_port, what }, " ")
end

-- First pass: remembers a request or an answer, and which frame it belongs to.
local function remember(pinfo, forward, what, lost)
    local id = key(pinfo, forward, what)
    local request = requests[id]
    local now = pinfo.rel_ts
    if forward then
        if not request then
            request = { frames = {}, times = {} }
            requests[id] = request
        end
        table.insert(request.frames, pinfo.number)
        table.insert(request.times, now)
        frames[pinfo.number] = { request = request, attempt = #request.frames }
    elseif lost then
        frames[pinfo.number] = { answers = request }
    else
        local again = request ~= nil and request.answer ~= nil
        frames[pinfo.number] = {
            answers = request,
            -- An answer belongs to the latest request before it; which one it really answers, a
            -- protocol without such a mark cannot say.
            of = request and #request.frames,
            at = now,
            again = again,
        }
        if request and not again then
            request.answer = pinfo.number
        end
    end
end

local function show_links(buffer, pinfo, tree, forward)
    local frame = frames[pinfo.number]
    if not frame then return "" end
    local note = ""
    if forward then
        local request = frame.request
        if frame.attempt > 1 then
            tree:add(f.retransmission, true):set_generated()
            tree:add(f.first, request.frames[1]):set_generated()
            tree:add_proto_expert_info(e.resent, "Sent again, attempt " .. frame.attempt)
            note = " [retransmission " .. (frame.attempt - 1) .. "]"
        end
        if request.answer then
            tree:add(f.response, request.answer):set_generated()
        end
    elseif frame.answers and frame.of then
        local request = frame.answers
        tree:add(f.request, request.frames[frame.of]):set_generated()
        tree:add(f.time, frame.at - request.times[frame.of]):set_generated()
        if frame.again then
            tree:add(f.duplicate, true):set_generated()
            tree:add_proto_expert_info(e.again)
            note = " [duplicate]"
        end
    end
    return note
end

-- The receivers of an assignment, each with its parts. Either spelling of quotes.
local function show_receivers(buffer, tree, text, at)
    local list = tree:add(f.list, buffer(at - 1), text:sub(at))
    local count = 0
    for from, entry, to in text:sub(at):gmatch("(){([^{}]*)}()") do
        local item = list:add(f.receiver, buffer(at - 2 + from, to - from), entry)
        for name, value in entry:gmatch("['\"](%w[%w_]*)['\"]%s*:%s*['\"]([^'\"]*)['\"]") do
            local field = ({ ip_address = f.address, name = f.name, caps = f.caps })[name]
            if field then
                item:add(field, buffer(at - 2 + from, to - from), value)
            end
        end
        count = count + 1
    end
    return count
end

-- What each type has after its Type field. Returns a line for the list of packets, what the message
-- is about (for links) and whether it asks; or nil if the message cannot be read.
local parts = {}

local function show_number(buffer, tree, field, part)
    tree:add(field, buffer(part.from, part.len), part.value)
end

local function tid_and_seq(buffer, tree, text, at, seq_field)
    local tid, after_tid = number(text, at, "TID")
    if not tid then return nil end
    local seq, after_seq = number(text, after_tid, "SEQ")
    if not seq then return nil end
    show_number(buffer, tree, f.tid, tid)
    show_number(buffer, tree, seq_field, seq)
    return tid.digits, seq.digits, after_seq
end

local function show_crc(buffer, tree, text, at)
    local from, to, digits = text:find("^CRC:(%x%x%x%x%x%x%x%x);?", at)
    if not from then return at end
    tree:add(f.crc, buffer(from + 3, 8), tonumber(digits, 16))
    return to + 1
end

-- A nonce, if there is one, and what follows.
local function show_nonce(buffer, tree, text, at)
    local from, to, digits = text:find("^NONCE:(%x+);?", at)
    if not from then return "", at end
    tree:add(f.nonce, buffer(from + 5, #digits), digits)
    return " " .. digits, to + 1
end

-- A client that asks with a nonce sends bare intents too: its assignment answers either.
parts[0] = function(buffer, tree, text, at)
    show_nonce(buffer, tree, text, at)
    return "", "intent", true
end

parts[1] = function(buffer, tree, text, at)
    local tid, next = number(text, at, "TID")
    if not tid then return nil end
    show_number(buffer, tree, f.tid, tid)
    local _, data = show_nonce(buffer, tree, text, next)
    if text:sub(data, data + 4) ~= "DATA:" then return nil end
    local count = show_receivers(buffer, tree, text, data + 5)
    return "TID " .. tid.digits .. ", " .. count .. " receivers", "intent", false
end

parts[2] = function(buffer, tree, text, at)
    local tid, seq, next = tid_and_seq(buffer, tree, text, at, f.seq)
    if not tid then return nil end
    next = show_crc(buffer, tree, text, next)
    if text:sub(next, next + 4) ~= "DATA:" then return nil end
    local len = buffer:len() - next - 4
    if len > 0 then tree:add(f.data, buffer(next + 4, len)) end
    tree:add(f.len, len):set_generated()
    return "SEQ " .. seq .. ", " .. len .. " bytes", "chunk " .. tid .. " " .. seq, true
end

parts[3] = function(buffer, tree, text, at)
    local tid, seq, next = tid_and_seq(buffer, tree, text, at, f.seq)
    if not tid then return nil end
    show_crc(buffer, tree, text, next)
    return "SEQ " .. seq, "chunk " .. tid .. " " .. seq, false
end

parts[4] = function(buffer, tree, text, at)
    local tid, chunks, next = tid_and_seq(buffer, tree, text, at, f.chunks)
    if not tid then return nil end
    next = show_crc(buffer, tree, text, next)
    local from, _, bytes, hash = text:find("^DATA:(%d+) (%x+)", next)
    if not from then return nil end
    tree:add(f.bytes, buffer(from + 4, #bytes), UInt64(bytes))
    tree:add(f.blake3, buffer(from + 5 + #bytes, #hash), hash)
    return chunks .. " chunks, " .. bytes .. " bytes", "seal " .. tid, true
end

parts[5] = function(buffer, tree, text, at)
    local tid, next = number(text, at, "TID")
    if not tid or text:sub(next, next + 4) ~= "DATA:" then return nil end
    show_number(buffer, tree, f.tid, tid)
    local verdict = text:sub(next + 5)
    tree:add(f.verdict, buffer(next + 4), verdict)
    return verdict, "seal " .. tid.digits, false
end

parts[6] = function(buffer, tree, text, at)
    local _, next = show_nonce(buffer, tree, text, at)
    local position = number(text, next, "DATA")
    if not position then return nil end
    show_number(buffer, tree, f.position, position)
    return "at place " .. position.digits, "intent", false
end

parts[7] = function(buffer, tree, text, at)
    local nonce, next = show_nonce(buffer, tree, text, at)
    if next == at then return nil end
    return "", "probe" .. nonce, true
end

parts[8] = function(buffer, tree, text, at)
    local nonce, next = show_nonce(buffer, tree, text, at)
    if next == at or text:sub(next, next + 4) ~= "DATA:" then return nil end
    local caps = text:sub(next + 5)
    if #caps > 0 then tree:add(f.caps, buffer(next + 4), caps) end
    return caps, "probe" .. nonce, false
end

function mdalp.dissector(buffer, pinfo, tree)
    local text = buffer:raw()
    local from, to, digits = text:find("^Type:(%d+);?")
    if not from then return 0 end
    pinfo.cols.protocol = "MDALP"
    local item = tree:add(mdalp, buffer())
    local kind = tonumber(digits)
    local read = parts[kind]
    if not read then
        item:add_proto_expert_info(e.malformed, "Unknown type " .. digits)
        pinfo.cols.info = "Unknown type " .. digits
        return buffer:len()
    end
    item:add(f.type, buffer(5, #digits), kind)
    local line, what, forward = read(buffer, item, text, to + 1)
    if not line then
        item:add_proto_expert_info(e.malformed)
        pinfo.cols.info = types[kind] .. ", malformed"
        return buffer:len()
    end
    local name = interface_name()
    local lost = name ~= nil and name.value == "mdalp-lost"
    if not pinfo.visited then
        remember(pinfo, forward, what, lost)
    end
    local note = show_links(buffer, pinfo, item, forward)
    if lost then
        item:add(f.lost, true):set_generated()
        item:add_proto_expert_info(e.gone)
        note = " [lost]"
    end
    local info = types[kind] .. (line ~= "" and " " .. line or "") .. note
    pinfo.cols.info = info
    item:append_text(", " .. info)
    return buffer:len()
end

-- Other ports than 4650 (the port= capability) are recognized by the first bytes.
local function recognize(buffer, pinfo, tree)
    if buffer:len() < 6 or buffer(0, 5):string() ~= "Type:" then return false end
    mdalp.dissector(buffer, pinfo, tree)
    return true
end

DissectorTable.get("udp.port"):add(4650, mdalp)
mdalp:register_heuristic("udp", recognize)
