-- Health of a ModelSpec: is the release serving? Never: is work going on. docs/install.md has the same as a table.
-- For Argo CD's Lua: 5.1 with nothing but tables. Conditions follow kstatus: Reconciling and Stalled only while true.
local status = obj.status or {}

local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local ready = conditions.Ready
local serving = conditions.Serving

local words = status.summary
if words == nil or words == "" then
  words = ready ~= nil and ready.message or ""
end

local function health(name, otherwise)
  return {status = name, message = words ~= "" and words or otherwise}
end

if obj.spec.suspend == true then
  return {status = "Suspended", message = "spec.suspend is true"}
end
if status.observedGeneration ~= obj.metadata.generation or ready == nil then
  return {status = "Progressing", message = "waits for Trunkline to look at it"}
end
if conditions.Stalled ~= nil and conditions.Stalled.status == "True" then
  return health("Degraded", "a person must act")
end
if serving ~= nil and serving.reason == "FallbackToPrevious" then
  return health("Degraded", "the previous release serves")
end
if ready.status == "True" or (serving ~= nil and serving.status == "True") then
  return health("Healthy", "the release serves")
end

-- In its steps a release serves beside the one before it. That may take hours, or wait for traffic, and a sync that waits
-- here would hold up the one that brings its revert.
if serving ~= nil and serving.reason == "Canary" then
  return health("Healthy", "two releases serve")
end

-- Nothing is wrong and the release does not serve. What is it waiting for?
local reconciling = conditions.Reconciling
if serving ~= nil and serving.reason == "RollingOut" then
  return health("Progressing", "the release is being loaded")
end
if serving ~= nil and serving.reason == "NothingToServe" and obj.spec.release ~= nil then
  return health("Healthy", "released, and nothing is to serve")
end
-- A cluster that has done all that git asks for is healthy; what comes next is a person's pull request. To wait for
-- that here would hold up the very sync that brings its merge: Argo CD ends a sync of several waves at Healthy only.
if reconciling == nil or reconciling.reason == "PullRequestOpen" or reconciling.reason == "DataNotPinned" then
  return health("Healthy", "nothing is released")
end
return health("Progressing", "work is under way")
